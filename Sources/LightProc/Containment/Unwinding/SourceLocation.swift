// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// One function that an address belongs to, with the place in the source where it stands.
package struct SourceLocation: Sendable, Equatable {
    /// The function's name, demangled.
    package var function: String
    package var file: String?
    package var line: Int?
    package var column: Int?
    /// Whether the compiler put the function's code into its caller.
    package var isInlined: Bool
}
