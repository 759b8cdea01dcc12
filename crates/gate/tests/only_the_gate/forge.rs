use gate::Authorized;

fn main() {
    let _forged = Authorized { action: "rm -rf /" };
}
