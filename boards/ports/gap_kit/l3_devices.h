/* The vendor's headers of flash, its files and RAM outside the chip. */
#ifndef FT_L3_DEVICES_H
#define FT_L3_DEVICES_H

#include <pmsis.h>
#include <bsp/bsp.h>
#include <bsp/flash.h>
#include <bsp/fs.h>
#include <bsp/fs/readfs.h>
#include <bsp/ram.h>

#endif
