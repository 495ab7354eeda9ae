#!/usr/bin/env escript
%%! +S 2:2
%% This source file is part of the Bastion for Swift project
%% Licensed under Apache License v2.0 or MIT, at your option
%% SPDX-License-Identifier: Apache-2.0 OR MIT
%%
%% Prints what Erlang/OTP does where a rule of links and monitors is doubtful: what docs/SEMANTICS.md and LinkTableTests go by.
main(_) ->
  error_logger:tty(false), logger:set_primary_config(level, none),
  process_flag(trap_exit, true),
  %% ends x {plain, trap, mon}
  Ends = [{normal, fun() -> ok end}, {shutdown, fun() -> exit(shutdown) end}, {error, fun() -> exit(boom) end},
          {kill, fun() -> receive never -> ok end end}],
  [begin
     Self = self(),
     Mk = fun(Kind) -> spawn(fun() ->
         case Kind of trap -> process_flag(trap_exit, true); _ -> ok end,
         P = case Kind of mon -> {P0,_}=spawn_monitor(fun() -> receive go -> F() end end), P0; _ -> spawn_link(fun() -> receive go -> F() end end) end,
         case N of kill -> exit(P, kill); _ -> P ! go end,
         receive {'EXIT', P, R} -> Self ! {self(), {'EXIT', R}}; {'DOWN',_,_,P,R} -> Self ! {self(), {'DOWN', R}} after 100 -> Self ! {self(), alive} end end) end,
     [begin {W, M} = {Mk(K), 0}, Mr = monitor(process, W), M,
        R = receive {W, X} -> X; {'DOWN', Mr, _, _, Why} when Why =/= normal, Why =/= noproc -> {died, Why} after 500 -> timeout end,
        io:format("~p x ~p -> ~p~n", [N, K, R]) end || K <- [plain, trap, mon]]
   end || {N, F} <- Ends],
  Dead = spawn(fun() -> ok end), timer:sleep(20),
  Try = fun(Name, F) ->
     P = spawn(F), M = monitor(process, P), receive {'DOWN', M, _, _, R} -> io:format("~s: ~p~n", [Name, R]) after 300 -> io:format("~s: alive~n", [Name]) end end,
  Flush = fun() -> receive X -> {got, X} after 50 -> nothing end end,
  Try("link dead, plain", fun() -> catch link(Dead), receive never -> ok after 100 -> exit(survived) end end),
  Try("link dead, trap", fun() -> process_flag(trap_exit, true), R = (catch link(Dead)), exit({R, Flush()}) end),
  Try("monitor dead", fun() -> monitor(process, Dead), exit(Flush()) end),
  Try("link self", fun() -> link(self()), exit({links, process_info(self(), links)}) end),
  Try("monitor self", fun() -> monitor(process, self()), exit(Flush()) end),
  Try("exit self normal plain", fun() -> exit(self(), normal), exit(survived) end),
  Try("exit self normal trap", fun() -> process_flag(trap_exit, true), exit(self(), normal), exit(Flush()) end),
  Try("exit other normal plain", fun() -> S = self(), spawn(fun() -> exit(S, normal) end), receive X -> exit({got, X}) after 100 -> exit(survived) end end),
  Try("exit other boom trap", fun() -> process_flag(trap_exit, true), S = self(), spawn(fun() -> exit(S, boom) end), exit(Flush()) end),
  Try("exit other kill trap", fun() -> process_flag(trap_exit, true), S = self(), spawn(fun() -> exit(S, kill) end), exit(Flush()) end),
  Try("exit other killed trap", fun() -> process_flag(trap_exit, true), S = self(), spawn(fun() -> exit(S, killed) end), exit(Flush()) end),
  Try("double link one exit msg", fun() -> process_flag(trap_exit, true), P = spawn(fun() -> receive go -> exit(boom) end end), link(P), link(P), P ! go, A = Flush(), B = Flush(), exit({A, B}) end),
  Try("double link, one unlink", fun() -> process_flag(trap_exit, true), P = spawn(fun() -> receive go -> exit(boom) end end), link(P), link(P), unlink(P), P ! go, exit(Flush()) end),
  Try("unlink leaves EXIT in mailbox", fun() -> process_flag(trap_exit, true), P = spawn_link(fun() -> exit(boom) end), timer:sleep(30), unlink(P), exit(Flush()) end),
  Try("demonitor no flush after DOWN", fun() -> {_P, M} = spawn_monitor(fun() -> exit(boom) end), timer:sleep(30), R = demonitor(M, [info]), exit({R, Flush()}) end),
  Try("demonitor flush after DOWN", fun() -> {_P, M} = spawn_monitor(fun() -> exit(boom) end), timer:sleep(30), R = demonitor(M, [flush, info]), exit({R, Flush()}) end),
  Try("demonitor flush before", fun() -> {P, M} = spawn_monitor(fun() -> receive go -> exit(boom) end end), R = demonitor(M, [flush, info]), P ! go, exit({R, Flush()}) end),
  Try("two monitors", fun() -> P = spawn(fun() -> receive go -> exit(boom) end end), monitor(process, P), monitor(process, P), P ! go, {got,{_,A,_,_,_}} = Flush(), {got,{_,B,_,_,_}} = Flush(), exit({A =/= B}) end),
  Try("chain a-b-c reason", fun() -> process_flag(trap_exit, true), B = spawn_link(fun() -> spawn_link(fun() -> exit(boom) end), receive never -> ok end end), {got, {'EXIT', F, R}} = Flush(), exit({F =:= B, R}) end),
  Try("trap off after EXIT queued", fun() -> process_flag(trap_exit, true), spawn_link(fun() -> exit(boom) end), timer:sleep(30), process_flag(trap_exit, false), exit(Flush()) end),
  Try("killed peer, plain", fun() -> P = spawn_link(fun() -> receive never -> ok end end), exit(P, kill), receive never -> ok after 100 -> exit(survived) end end),
  Try("msgs before DOWN", fun() -> S = self(), spawn_monitor(fun() -> S ! one, S ! two, exit(boom) end), A = Flush(), B = Flush(), {got, C} = Flush(), exit({A, B, element(1, C)}) end),
  ok.
