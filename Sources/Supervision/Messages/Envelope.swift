// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What travels in the mailbox of an async process: a message of any type.
struct Envelope: Sendable {
    let message: any Sendable
}
