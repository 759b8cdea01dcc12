use gate::Authorized;

fn twice(authorized: Authorized<&str>) -> (Authorized<&str>, Authorized<&str>) {
    (authorized.clone(), authorized)
}

fn main() {}
