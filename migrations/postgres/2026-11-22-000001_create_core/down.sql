DROP TABLE steps;
DROP TABLE event_counter;
DROP TABLE events;
DROP TABLE conductors;
DROP TABLE node_traits;
DROP TABLE ports;
DROP TABLE nodes;
