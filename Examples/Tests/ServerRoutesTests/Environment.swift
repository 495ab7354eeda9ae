// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}
