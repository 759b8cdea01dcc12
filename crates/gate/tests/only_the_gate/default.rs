use gate::Authorized;

fn main() {
    let _made: Authorized<()> = Default::default();
}
