//! What is valid and yet not wise.
