#pragma once

/// Has the kernel answer EPERM to mbind and set_mempolicy from now on, in this program: as the sandboxes of containers do.
/// Returns 0, or errno.
int csandbox_forbidMemoryPolicy(void);
