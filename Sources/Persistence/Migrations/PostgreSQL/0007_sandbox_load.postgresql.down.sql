DROP TABLE sandbox_load;
