//! x
fn main() {
    let t = std::time::Instant::now();
    let images = if std::env::args().nth(1).as_deref() == Some("slow") {
        gantry_testkit::Images::slow()
    } else {
        gantry_testkit::Images::fast()
    };
    for image in images.iter() {
        println!("{} {} {}", image.reference, image.bytes(), image.digest);
    }
    println!("{} bytes in {:?}", images.unique_bytes(), t.elapsed());
}
