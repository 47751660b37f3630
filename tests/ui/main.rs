//! What the compiler says to a newcomer's commonest mistakes.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
