#include "CLightProc.h"

// In a place of its own, beside the thread's record: every send starts here, and one load less is one load less.
__thread crt_nodePool *crt_currentNodes __attribute__((tls_model("initial-exec")));
