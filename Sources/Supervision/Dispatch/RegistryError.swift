// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A name that cannot be had, or whose process is not what was asked for.
public struct RegistryError: Error, Sendable, CustomStringConvertible {
    /// What is wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable {
        private let name: String
        /// A name must not be empty.
        public static let emptyName = Code(name: "emptyName")
        /// Another process has the name; `holder` says which.
        public static let nameTaken = Code(name: "nameTaken")
        /// The process has ended for good: it cannot have a name.
        public static let processEnded = Code(name: "processEnded")
        /// The process that has the name takes messages of another type.
        public static let wrongMessageType = Code(name: "wrongMessageType")
        /// Nobody got the name within the time.
        public static let timeout = Code(name: "timeout")
        /// The waiting task was cancelled.
        public static let cancelled = Code(name: "cancelled")
    }

    /// What is wrong, for programs.
    public let code: Code
    /// The name in question.
    public let name: String
    /// The process that has the name, where it matters.
    public let holder: Recipient?
    /// What is wrong, for humans; names both types where those differ.
    public let description: String

    init(_ code: Code, _ name: String, holder: Recipient? = nil, _ description: String) {
        self.code = code
        self.name = name
        self.holder = holder
        self.description = description
    }
}
