#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]
use std::io::Read;
fn chart(path: &str) -> chart::Chart {
    let file = std::fs::File::open(path).unwrap();
    let mut files = vec![];
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        files.push((path, bytes));
    }
    chart::Chart::read(files).unwrap()
}
use gantry_chart as chart;
static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
fn main() {
    let verbose = std::env::var("V").is_ok();
    for name in std::env::args().skip(1) {
        let path = std::fs::read_dir("/work/shared/charts")
            .unwrap()
            .map(|e| e.unwrap().path().display().to_string())
            .find(|p| {
                let b = p.rsplit('/').next().unwrap();
                b.starts_with(&format!("{name}-"))
                    && b[name.len() + 1..].starts_with(|c: char| c.is_ascii_digit())
            })
            .unwrap();
        let values = format!("/work/wt/chart/crates/xtask/charts/{name}.yaml");
        let start = std::time::Instant::now();
        let chart = chart(&path);
        let read = start.elapsed();
        let render = |overlay: Option<&str>| {
            let mut command = std::process::Command::new("/root/.cache/gantry-dev/bin/helm");
            command.args(["template", "rel", &path, "--kube-version", "1.33.0", "-f", &values]);
            let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let file = format!("/tmp/chart/overlay-{name}-{n}.yaml");
            if let Some(overlay) = overlay {
                std::fs::write(&file, overlay).unwrap();
                command.args(["-f", &file]);
            }
            let out = command.output().unwrap();
            if !out.status.success() {
                let message = String::from_utf8_lossy(&out.stderr).to_string();
                if verbose {
                    println!(
                        "RENDER FAILED {file}: {}",
                        message.chars().take(400).collect::<String>()
                    );
                }
                return Err(chart::RenderError { message });
            }
            Ok(String::from_utf8(out.stdout).unwrap())
        };
        let start1 = std::time::Instant::now();
        render(None).unwrap();
        let one = start1.elapsed();
        let user =
            chart::values::read(&values, &std::fs::read_to_string(&values).unwrap()).unwrap();
        if std::env::var("HOME_CALLS").is_ok() {
            let f = chart::phone_home::Switches::builtin().find(
                &chart.effective(&user),
                &render(None).unwrap(),
                &|_| false,
            );
            println!("=== {name} {}", f.len());
            for f in f {
                println!(
                    "{}",
                    match f {
                        chart::phone_home::Finding::Value { path, .. } => format!("V {path}"),
                        chart::phone_home::Finding::Environment { name, place, .. } =>
                            format!("E {name} {}", place.name),
                        chart::phone_home::Finding::Address { url, place, .. } =>
                            format!("A {url} {} {}", place.name, place.path),
                    }
                );
            }
            continue;
        }
        if std::env::var("IMAGES").is_ok() {
            let start = std::time::Instant::now();
            let f =
                chart::inspect::images(&chart, &user, &render, chart::Rules::builtin()).unwrap();
            println!(
                "=== {name}: {} in {:?} {:.1}x",
                f.images.len(),
                start.elapsed(),
                start.elapsed().as_secs_f64() / one.as_secs_f64()
            );
            for i in f.images {
                if i.confidence == chart::find::Confidence::Possible || verbose {
                    println!("   {}", i.explain().replace("\n", " "));
                }
            }
            for i in f.broken {
                println!("   BROKEN {i:?}");
            }
            continue;
        }
        let target = chart::relocate::Target {
            prefix: "registry.internal:5000/ai".parse().unwrap(),
            naming: types::naming::Naming::Path,
            pull_secret: std::env::var("SECRET").ok(),
        };
        let start = std::time::Instant::now();
        match chart::relocate::relocate(&chart, &user, &target, &render) {
            Ok(r) => {
                println!(
                    "=== {name}: {:?} moved {} stayed {} changes {} foreign {} lines {} renders {} in {:?} ({:.1}x of {:?}) read {:?}",
                    r.proof.verdict(),
                    r.proof.moved.len(),
                    r.proof.stayed.len(),
                    r.proof.changes.len(),
                    r.proof.foreign.len(),
                    r.lines.len(),
                    r.renders,
                    start.elapsed(),
                    start.elapsed().as_secs_f64() / one.as_secs_f64(),
                    one,
                    read
                );
                for s in &r.proof.stayed {
                    println!("   STAYED {} {}", s.from, s.place);
                }
                for s in r.proof.changes.iter().take(5) {
                    println!(
                        "   CHANGE {}: {:?} -> {:?}",
                        s.place,
                        s.before.as_ref().map(|t| t.chars().take(200).collect::<String>()),
                        s.after.as_ref().map(|t| t.chars().take(200).collect::<String>())
                    );
                }
                for s in r.proof.foreign.iter().take(5) {
                    println!("   FOREIGN {} {}", s.text, s.place);
                }
                if verbose {
                    println!("{}", r.overlay);
                }
            }
            Err(e) => println!("=== {name}: ERROR {e}"),
        }
    }
}
