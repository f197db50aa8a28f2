//! Where the rooms meet: observe, lower, plan, apply.
