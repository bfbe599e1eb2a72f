//! The plugin host, counted for Prometheus: read when scraped.
