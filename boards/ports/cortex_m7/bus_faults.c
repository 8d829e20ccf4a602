/* Bus faults of data are ignored at the priority of a fault (Armv7-M Architecture Reference Manual, B3.2:
 * CCR.BFHFNMIGN, and B1.4: FAULTMASK). */
#include "bus_faults.h"
#include "cortex_m.h"

#define SCB_CCR       FT_REGISTER(0xE000ED14u)
#define CCR_BFHFNMIGN (1u << 8)

void ft_bus_faults_off(void) {
    __asm volatile("cpsid f" ::: "memory");
    SCB_CCR |= CCR_BFHFNMIGN;
    __asm volatile("dsb\n isb" ::: "memory");
}

void ft_bus_faults_on(void) {
    __asm volatile("dsb" ::: "memory");
    SCB_CCR &= ~CCR_BFHFNMIGN;
    __asm volatile("dsb\n isb\n cpsie f" ::: "memory");
}
