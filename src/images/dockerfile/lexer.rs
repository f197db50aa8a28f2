//! Physical lines to logical ones: parser directives, comments, continuation lines, here-documents.
