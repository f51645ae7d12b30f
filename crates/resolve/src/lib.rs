//! From gantry.yaml to gantry.lock
