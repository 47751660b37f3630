use schedgroup::task::TaskGroup;

fn main() {
    let group = TaskGroup::<std::io::Error>::new();
    group.spawn(async {
        println!("done");
    });
}
