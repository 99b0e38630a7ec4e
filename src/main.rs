use geartrain::lesson;
fn main() {
    for l in lesson::LESSONS {
        println!("{}", l.listing().unwrap());
        let t = l.train(l.epochs, |e| if e.epoch % l.every == 0 { println!("{e:?}") }).unwrap();
        println!("{t:?}");
    }
}
