/* What the port with standard input and output offers beside its two functions. */
#ifndef PORT_POSIX_H
#define PORT_POSIX_H

/* SIGALRM ends the process when a request takes more seconds than that; 0: it may take any time. */
void unfoldc_port_limit(unsigned int limit);

#endif
