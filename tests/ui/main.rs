//! What the compiler says to a newcomer's commonest mistakes.
#![forbid(unsafe_code)]

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
