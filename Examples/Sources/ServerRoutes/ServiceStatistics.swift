// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a service counts about the requests that were handed to it.
package struct ServiceStatistics: Sendable, Equatable {
    /// Requests taken, answered or not; those to `/stats` and those refused as malformed are not among them.
    package var requests: Int
    package var trapsContained: Int
    /// Restarts of supervised processes.
    package var restarts: Int

    package init(requests: Int, trapsContained: Int, restarts: Int) {
        self.requests = requests
        self.trapsContained = trapsContained
        self.restarts = restarts
    }
}

extension Response {
    /// The answer to `/stats`.
    package static func statistics(_ service: ServiceStatistics, of process: ProcessStatistics) -> Response {
        Response(
            json: [
                "pid": .integer(process.processID),
                "uptime_seconds": .number(process.uptimeSeconds),
                "requests": .integer(service.requests),
                "traps_contained": .integer(service.trapsContained),
                "restarts": .integer(service.restarts),
                "threads": .integer(process.threads),
                "rss_bytes": .integer(process.residentBytes),
                "peak_rss_bytes": .integer(process.peakResidentBytes),
            ])
    }
}
