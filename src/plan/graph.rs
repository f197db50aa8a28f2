//! Order of services: who depends on whom.
