//! Find images in charts, renders and manifests; write the overlay; prove it
