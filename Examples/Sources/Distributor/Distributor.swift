// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A conference: its staff is asked, its enthusiasts are told all, and who buys a ticket subscribes as an attendee.
@main
struct Conference: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let system = context.system
        let tree = try context.supervise {
            Children("staff", Staff(), redundancy: 3).distributor("staff", .leastLoaded)
            Children("enthusiast", Guest(), redundancy: 10).distributor("enthusiasts")
        }
        let staff = Distributor<Staff.Message>("staff", in: system)
        let enthusiasts = Distributor<Guest.Message>("enthusiasts", in: system)
        let attendees = Distributor<Guest.Message>("attendees", in: system)

        // Everybody who might come hears of it.
        let invited = try enthusiasts.tellEveryone(.news("the conference is on"))
        print("\(invited) enthusiasts were told")

        // Nobody has a ticket yet, and what was to be said comes back.
        do {
            try attendees.tellOne(.news("hello"))
            throw WrongResult("somebody attends without a ticket")
        } catch let error as DistributorError<Guest.Message> where error.code == .noDistributor {
            print(error)
        }

        // Every other enthusiast buys a ticket: some member of the staff sells it.
        for guest in try tree.group("enthusiast", of: Guest.Message.self).members.enumerated()
        where guest.offset % 2 == 0 {
            let seat = try await staff.askOne { .ticket(for: guest.element.id, $0) }
            guest.element.tell(.seat(seat))
            try attendees.subscribe(guest.element)
        }
        let seated = try attendees.tellEveryone(.news("the doors are open"))
        print("\(seated) attendees were told")

        // The first member of the staff who knows answers for all.
        let lunch = try await staff.askFirst { .lunch($0) }
        print("lunch is at \(lunch)")

        // What became of it: each attendee has heard two things and has a seat, the others one and none.
        let sold = try await staff.askEveryone { .ticketsSold($0) }.reduce(0) { try $0 + $1.get() }
        let guests = try await enthusiasts.askEveryone { .whatWasHeard($0) }.map { try $0.get() }
        print("\(sold) tickets were sold")
        guard invited == 10, seated == 5, sold == 5, lunch == 12 else { throw WrongResult("a number is wrong") }
        for (number, guest) in guests.enumerated() {
            guard guest.news == (number % 2 == 0 ? 2 : 1), (guest.seat != nil) == (number % 2 == 0) else {
                throw WrongResult("guest \(number) heard \(guest)")
            }
        }
        // Who leaves hears no more.
        for guest in attendees.members {
            if let guest = guest.ref(as: Guest.Message.self) { attendees.unsubscribe(guest) }
        }
        guard attendees.members.isEmpty else { throw WrongResult("somebody stayed") }
    }
}

struct Staff: Reactive {
    enum Message: Sendable {
        case ticket(for: ProcID, Reply<Int>)
        case ticketsSold(Reply<Int>)
        case lunch(Reply<Int>)
    }
    var sold = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .ticket(_, let reply):
            sold += 1
            reply(sold)
        case .ticketsSold(let reply): reply(sold)
        case .lunch(let reply): reply(12)
        }
    }
}

struct Guest: Reactive {
    struct Memory: Sendable {
        var news = 0
        var seat: Int?
    }
    enum Message: Sendable {
        case news(String)
        case seat(Int)
        case whatWasHeard(Reply<Memory>)
    }
    var memory = Memory()

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .news: memory.news += 1
        case .seat(let seat): memory.seat = seat
        case .whatWasHeard(let reply): reply(memory)
        }
    }
}

struct WrongResult: Error {
    let what: String
    init(_ what: String) { self.what = what }
}
