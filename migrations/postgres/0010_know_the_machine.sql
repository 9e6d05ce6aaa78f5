-- Where the daemon runs that works on a database of one machine: the kernel that keeps its locks, and the name for people.
alter table daemon_state add column machine text collate "C";
alter table daemon_state add column host text collate "C";
