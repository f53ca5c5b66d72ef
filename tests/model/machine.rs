//! The pure machine, every state × event × facts.
