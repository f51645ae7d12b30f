//! The doors over any Source: OCI and Hugging Face Hub
