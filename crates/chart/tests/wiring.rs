//! The wiring of real charts, with helm: what each gets, and that nothing else changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each file of tests has its own part of it.
mod support;

use chart::phone_home::Switches;
use chart::values;
use chart::wiring::{Offline, Request, Table, Wiring, wire};
use gantry_chart as chart;
use types::site::Site;

const SITE: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai', ca: ca.pem}\n\
    clusterIssuer: internal-ca\nmodels:\n- {to: 'pvc://ai/models'}\n- {to: 's3://models/sie', layout: sie}\n\
    - {to: 'pvc://ai/ollama', layout: ollama}\n";

#[test]
fn explore() {
    let site = Site::parse("site.yaml", SITE).unwrap();
    let offline = Offline::of_site(&site, Some("ai"));
    for archive in support::archives() {
        let chart = support::read(&archive);
        let own = support::values_file(&chart);
        let user = std::fs::read_to_string(&own).unwrap_or_default();
        let user = values::read("values", &user).unwrap();
        let render = |overlay: Option<&str>| support::helm(&archive, &own, overlay);
        let started = std::time::Instant::now();
        render(None).unwrap();
        let one = started.elapsed();
        let started = std::time::Instant::now();
        let request = Request {
            chart: &chart,
            user: &user,
            offline: &offline,
            table: Table::builtin(),
            switches: Switches::builtin(),
        };
        let wiring: Wiring = wire(&request, &render).unwrap();
        let took = started.elapsed();
        println!(
            "=== {} {took:?} = {:.1} renders; {} renders",
            chart.name(),
            took.as_secs_f64() / one.as_secs_f64(),
            wiring.renders
        );
        for s in &wiring.settings {
            println!("  {}: {}", s.path, s.value);
        }
        println!("{}", wiring.markdown());
    }
}
