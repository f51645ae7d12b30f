//! Programs compiled here, because their registries have sources only: llama-cpp-python (PyPI) and
//! Ollama (a Go module with C++ in it). Once, at the lowest priority, for any machine of this
//! architecture; kept below the cache folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::blobs::sha256_digest;
use super::python;
use super::recipes::CompiledProgram;
use crate::{build_once, tools};

/// The CPU's oldest instructions, no OpenMP, no vision: half of the work, and it runs everywhere.
const LLAMA_CPP_OPTIONS: &str = "-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF \
    -DGGML_AVX=OFF -DGGML_AVX2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF -DGGML_BMI2=OFF -DGGML_SSE42=OFF \
    -DLLAVA_BUILD=OFF -DCMAKE_C_FLAGS_RELEASE=-O2 -DCMAKE_CXX_FLAGS_RELEASE=-O2";

/// What pip builds it with; cmake and ninja only where the machine has none.
const BUILD_TOOLS: &str = "scikit-build-core==1.1.2\ncmake==4.4.4\nninja==1.13.2\n";

/// A program's folder, and where in an image its content belongs.
pub(crate) fn compile_program(program: CompiledProgram) -> (PathBuf, &'static str) {
    match program {
        CompiledProgram::LlamaCpp(version) => (compile_llama_cpp(version), python::PLACE),
        CompiledProgram::Ollama(version) => (compile_ollama(version), "usr/bin"),
    }
}

/// The package, without what it needs.
fn compile_llama_cpp(version: &str) -> PathBuf {
    let package = format!("llama-cpp-python=={version}");
    let key = sha256_digest(format!("{package} {LLAMA_CPP_OPTIONS}").as_bytes()).short_hex();
    build_once::build_folder_once(&format!("compiled/llama-cpp-{key}"), |folder| {
        let mut pip = low_priority_command(python::python_program());
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-compile", "--no-cache-dir", "--no-binary", "llama-cpp-python"]);
        pip.arg("--target").arg(folder).arg(&package);
        let constraints = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        fs::write(constraints.path(), BUILD_TOOLS).expect("a temporary file can be written");
        pip.env("CMAKE_ARGS", LLAMA_CPP_OPTIONS).env("PIP_CONSTRAINT", constraints.path());
        tools::run_command(&mut pip);
        python::compile_sources(folder);
    })
}

/// A folder with the one program.
fn compile_ollama(version: &str) -> PathBuf {
    build_once::build_folder_once(&format!("compiled/ollama-{version}"), |folder| {
        let mut go = low_priority_command(tools::tool_path("go"));
        let flags = format!("-s -w -X github.com/ollama/ollama/version.Version={version}");
        go.args(["install", "-trimpath", "-ldflags", &flags]);
        go.arg(format!("github.com/ollama/ollama@v{version}"));
        go.envs([("GOFLAGS", ""), ("CGO_ENABLED", "1")]);
        // Debugging information of C++ is half of the compiler's work.
        go.envs([("CGO_CFLAGS", "-O2 -g0"), ("CGO_CXXFLAGS", "-O2 -g0")]).env("GOBIN", folder);
        tools::run_command(&mut go);
        assert!(fs::exists(folder.join("ollama")).unwrap_or_default(), "go made no ollama");
    })
}

/// A command that lets everybody else go first.
fn low_priority_command(program: PathBuf) -> Command {
    let mut command = tools::tool_command("nice");
    command.args(["-n", "15"]).arg(program);
    command
}
