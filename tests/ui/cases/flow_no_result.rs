fn main() {
    let _first = schedgroup::flow::race([async { 1 }]);
}
