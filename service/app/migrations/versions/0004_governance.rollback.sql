DROP TABLE proven_keys;
DROP TABLE simulation_pins;
