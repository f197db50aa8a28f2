//! Planning: what is wanted × what is there → steps. Pure: decides everything, changes nothing.
