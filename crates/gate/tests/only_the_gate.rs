//! Nothing but the gate can make an authorisation, copy one, or use one twice: it does not compile.

#[test]
fn authorisations_cannot_be_forged() {
    trybuild::TestCases::new().compile_fail("tests/only_the_gate/*.rs");
}
