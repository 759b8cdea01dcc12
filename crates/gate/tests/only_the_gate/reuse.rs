use gate::Authorized;

fn reuse(authorized: Authorized<String>) -> (String, String) {
    (authorized.into_action(), authorized.into_action())
}

fn main() {}
