/* The emulator has loaded the recording to an address that the board's description states. */
#include "recording.h"
#include <stddef.h>
#include "port_config.h"

ft_recording_t *ft_recording(void) {
    ft_recording_t *recording = (ft_recording_t *)FT_PORT_RECORDING;
    return recording->magic == FT_RECORDING_MAGIC ? recording : NULL;
}
