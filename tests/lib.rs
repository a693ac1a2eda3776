//! Nothing lives here: the package is its test binary, `e2e/`.
