// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// The objects that were loaded when the list was made, with their names.
package struct ObjectList: Sendable {
    package struct Entry: Sendable {
        package let object: LoadedObject
        /// What to add to an address of the file to get the one in the process.
        package let bias: UInt
        /// As the loader knows it: empty for the executable.
        package let path: String

        /// The last component of the path.
        package var name: Substring {
            path.lastIndex(of: "/").map { path[path.index(after: $0)...] } ?? path[...]
        }
    }

    package private(set) var entries: [Entry] = []

    /// Asks the loader, under its lock: for start-up, and for threads that may wait.
    package init() {
        withUnsafeMutablePointer(to: &entries) { entries in
            _ = crt_forEachObject(
                { headers, _, argument in
                    guard let headers, let entries = argument?.assumingMemoryBound(to: [Entry].self) else { return 1 }
                    // safety: the loader's headers and our array are valid during the callback.
                    let headersNow = headers.pointee
                    entries.pointee.append(
                        Entry(
                            object: LoadedObject(headersNow),
                            bias: headersNow.base,
                            path: headersNow.name.map { String(cString: $0) } ?? ""
                        )
                    )
                    return 0
                },
                entries
            )
        }
    }

    package var executable: Entry? { entries.first }

    package func entry(containing address: UInt) -> Entry? {
        entries.first { $0.object.contains(address) }
    }
}
