//! One HTTPS client and one TLS server side for everything that is not AWS.
