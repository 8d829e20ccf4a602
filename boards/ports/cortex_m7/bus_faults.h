/* Reads of memory that may answer with a bus fault. */
#ifndef FT_BUS_FAULTS_H
#define FT_BUS_FAULTS_H

/* Until they are on again a read that faults returns anything, and no interrupt is served. */
void ft_bus_faults_off(void);
void ft_bus_faults_on(void);

#endif
