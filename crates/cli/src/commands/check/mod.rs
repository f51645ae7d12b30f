//! `gantry check`: runs the checks of `deploy::check` before or after a deployment, and prints the report.

mod args;
mod printer;
mod subject;

use deploy::check::{self, CheckName, CheckReport, CheckSubject, junit};
use types::own_image;

pub(crate) use self::args::CheckArgs;
use self::printer::CheckPrinter;
#[cfg(test)]
pub(super) use self::printer::format_report;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::output_files::OutputKind;

pub(crate) fn run(context: &CommandContext, args: &CheckArgs) -> Result<()> {
    let names = args.select_checks()?;
    if let Some(path) = &args.junit {
        args.overwrite.check_file(path, OutputKind::JunitReport)?;
    }
    for path in &args.report {
        args.overwrite.check_file(path, OutputKind::CheckReport)?;
    }
    let plan = subject::read_check_input(context, args, &names)?;
    let runtime = environment::build_runtime()?;
    let report = runtime.block_on(async {
        let subject = plan.connect_subject(args).await?;
        tokio::select! {
            report = check_until_well(context, args, &subject, &names) => report,
            // Checks start pods of their own, which have to be deleted.
            () = environment::wait_for_stop() => {
                check::remove_check_pods(&subject).await;
                Err(CommandError::failure("stopped").with_hint("run the same command again"))
            }
        }
    })?;
    require_success(&report)
}

/// Runs the checks once, or with `--watch` until none fails.
async fn check_until_well(
    context: &CommandContext,
    args: &CheckArgs,
    subject: &CheckSubject,
    names: &[CheckName],
) -> Result<CheckReport> {
    let mut printer = CheckPrinter::new(context, args.watch.is_some());
    loop {
        let report = check::run_checks(subject, names).await;
        if let Some(path) = &args.junit {
            environment::write_file(path, &junit::print_junit(&report)?)?;
        }
        for path in &args.report {
            let text = match path.extension().is_some_and(|extension| extension == "html") {
                true => report.to_html(own_image::VERSION)?,
                false => environment::format_report_json(path, &report)? + "\n",
            };
            environment::write_file(path, &text)?;
        }
        let is_last = args.watch.is_none() || report.has_passed();
        printer.print(&report, is_last)?;
        let Some(pause) = args.watch.filter(|_| !is_last) else { return Ok(report) };
        tokio::time::sleep(pause).await;
    }
}

fn require_success(report: &CheckReport) -> Result<()> {
    let Some(first) = report.first_failure() else { return Ok(()) };
    let kind = if report.is_digest_wrong() { ErrorKind::Integrity } else { ErrorKind::Failed };
    let all = report.findings.len();
    let line = first.why.lines().next().unwrap_or_default();
    let message = format!(
        "{} of {all} checks failed; the first: {} in {}: {line}",
        report.counts.failed, first.what, first.place
    );
    let error = CommandError::new(kind, message);
    Err(if first.next.is_empty() { error } else { error.with_hint(first.next.clone()) })
}
