//! First-party driver of the class relay_controller.
