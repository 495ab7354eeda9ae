// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// Turns linker names into those of the source.
package enum SwiftName {
    /// The readable form of a Swift symbol; any other name unchanged.
    package static func demangled(_ mangled: String) -> String {
        mangled.withCString { demangled($0) }
    }

    static func demangled(_ mangled: UnsafePointer<CChar>) -> String {
        guard let readable = crt_swiftDemangle(mangled, strlen(mangled), nil, nil, 0) else {
            return String(cString: mangled)
        }
        // The runtime gives a malloc'ed string.
        defer { free(readable) }
        return String(cString: readable)
    }
}
