//! Headers → flows with TCP state.
