//! What answers the API server: the admission webhook.
