//! Things outside: OCI registries, Hugging Face, Ollama, Helm, plain HTTP, and local sources
