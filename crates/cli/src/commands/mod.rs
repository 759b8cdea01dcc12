//! One module for each command.

pub(crate) mod audit;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod progress;
pub(crate) mod proof;
pub(crate) mod prove;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod stage;
pub(crate) mod trail;
pub(crate) mod vault;
