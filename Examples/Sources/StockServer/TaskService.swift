// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import ServerFrontEnd
import ServerRoutes
import Synchronization

/// Handles every request in a task of its own.
final class TaskService: RequestService {
    private let requests = Atomic(0)

    func handle(_ request: Request, completion: @escaping @Sendable (Response) -> Void) {
        // ordering: relaxed: a statistic, publishes nothing.
        requests.wrappingAdd(1, ordering: .relaxed)
        Task {
            do {
                completion(try await respond(to: request))
            } catch {
                completion(.thrown(error, path: request.path))
            }
        }
    }

    func statistics() -> ServiceStatistics {
        // ordering: relaxed: a statistic, publishes nothing.
        ServiceStatistics(requests: requests.load(ordering: .relaxed), trapsContained: 0, restarts: 0)
    }
}
