//! Policy language, compiler and decision engine of Portcullis.
