// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import ServerRoutes

/// Whoever answers the requests that the front end reads from its connections.
package protocol RequestService: Sendable {
    /// Takes a request and calls `completion` with the answer to it.
    ///
    /// Called on an event loop: it must not block, and it must not trap. `completion` may be called on any thread, at once
    /// or later; calls after the first one have no effect. Until it is called the connection waits, at most
    /// ``HTTPServer/Configuration/idleTimeout``.
    func handle(_ request: Request, completion: @escaping @Sendable (Response) -> Void)

    /// The figures for `/stats`. Called on an event loop: it must not block.
    func statistics() -> ServiceStatistics
}
